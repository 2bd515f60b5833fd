"""Conversation with memory: recall, reply, remember.

Deployable as it is (`langgraph dev`); settings come from the environment, ``HOPTRAIL_DOCS`` names
the documents, if there are any. The server brings its own checkpointer and store; whose memory it
is says ``user_id`` in the configuration, or who signed in.
"""

from hoptrail import Hoptrail

graph = Hoptrail().chat_graph
