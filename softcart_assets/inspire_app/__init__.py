"""The fitness application: goals, workouts, a plan and a quote each day, and messages.

The modules here decide and do no I/O. What the time is, what a person wants and what was sent
before are arguments.
"""
