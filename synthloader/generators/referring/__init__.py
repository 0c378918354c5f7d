"""Reference pictures: where they come from, and what is measured of them."""
