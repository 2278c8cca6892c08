"""Many runs from one file: ``fdtrain sweep`` runs what is missing and collects a table.

:mod:`plan` says which runs there are, :mod:`runner` runs them, :mod:`table` collects their results.
"""
