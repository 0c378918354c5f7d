"""What tiles are cut with: windows of pictures, and which objects a window may show."""
