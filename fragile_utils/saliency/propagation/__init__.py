"""The engine below DeepLIFT, LRP and deep Taylor decomposition: a network as steps, and walks through them."""
