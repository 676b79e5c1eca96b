"""A small part of Fashion-MNIST, shipped so that everything can be tried without a download; `cut` made it."""
