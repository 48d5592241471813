"""Models: fits, judges, registers and applies what lines of business declare. No Dagster here.

- `fit`: a logistic regression, and how each feature contributes to a score
- `judge`: predictions of past months from earlier ones, and what must hold of them
- `registry`: versions and the alias `champion`, in MLflow
- `pictures`: what the judgement looks like
- `report`: a page about a version
- `build`: all of it for one model, if anything changed
"""
