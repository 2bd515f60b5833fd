"""Question answering one step at a time: choose, solve, choose, …, synthesize.

Deployable as it is (`langgraph dev`); settings come from the environment, ``HOPTRAIL_DOCS`` names
the documents. The server brings its own checkpointer.
"""

from hoptrail import Hoptrail

graph = Hoptrail().iterative_graph
