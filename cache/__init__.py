"""Where generated samples are kept between epochs and runs."""
