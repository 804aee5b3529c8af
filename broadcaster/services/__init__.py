"""One module per thing the product does. Services own the transactions."""
