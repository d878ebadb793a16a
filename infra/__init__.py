"""What the project runs on: compose, images, local services."""
