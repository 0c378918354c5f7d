"""Reports: what was generated, as pictures and pages."""
