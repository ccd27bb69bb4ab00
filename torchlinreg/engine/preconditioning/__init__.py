"""Changes of variables in which the Hessian is near the identity, found from a sketch of the rows.

Imports: data, runtime.
"""
