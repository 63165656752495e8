"""One function for each thing a person does; each owns its transaction."""
