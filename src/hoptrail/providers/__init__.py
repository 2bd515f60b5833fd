"""One vendor a file; a vendor's errors are mapped at its door."""
