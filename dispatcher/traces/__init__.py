"""Traces of single events: what is noted on the way (`trail`), and the spans made of it."""
