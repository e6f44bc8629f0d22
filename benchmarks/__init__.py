"""Side-by-side runs against peers, recorded studies, and the pages made from them."""
