"""Score components of every validation and test image, and what is made of them."""
