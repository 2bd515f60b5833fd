"""A fork: a run that was, otherwise in one thing; only what rests on that is asked anew."""
