"""HTML pages: one style, and a template for each; a page needs no network and no server."""
