"""The picture of the packages, drawn from the imports that there are: `make architecture`."""
