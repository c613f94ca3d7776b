"""What the operator sees: metrics, the access log, usage records, captures; and what nobody sees: secrets."""
