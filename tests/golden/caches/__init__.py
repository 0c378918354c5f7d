"""One cache of every format version ever released, as it was written then. They are never made again."""
