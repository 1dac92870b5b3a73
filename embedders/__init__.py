"""Pure computation: data types, recipes, encoders, kernels. Imports no other room."""
