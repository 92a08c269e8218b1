"""`python -m bench --against REF`: this checkout beside another version of it, in turns, on the same machine.

checkout   the other version's files              harness    what runs inside each version, with its code
side       one version: its stores and processes  intervals  ratios, and how sure they are
compare    the rounds                             verdict    what is printed of them
"""
