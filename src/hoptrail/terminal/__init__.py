"""What a person sees in a terminal: a run while it goes, and its trace afterwards.

Text of questions, documents and models never reaches the terminal raw: it goes through
`hoptrail.terminal.plain`, and is never read as markup.
"""
