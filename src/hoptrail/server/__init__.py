"""The HTTP server: ``hoptrail serve``, or `create_app` in a server of your own.

It needs the extra ``server``: ``pip install "hoptrail[server]"``.
"""
