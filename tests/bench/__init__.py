"""`make bench`: how fast this is, beside what the machine can do at best and what a plain Celery task per person does.

One run, in turns, on one machine, everything on loopback. ``blast`` is the limit, ``naive`` the plain way, ``rounds`` sets
the product between them; then one file per further question. ``figures`` holds them to the bars.
"""
