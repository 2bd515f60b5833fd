"""Multi-hop question answering: decompose, solve, synthesize.

Deployable as it is (`langgraph dev`); settings come from the environment, ``HOPTRAIL_DOCS`` names
the documents. The server brings its own checkpointer.
"""

from hoptrail import Hoptrail

graph = Hoptrail().graph
