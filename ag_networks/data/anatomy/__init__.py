"""The anatomy behind the CT phantoms: implicit shapes, structures and how they are painted."""
