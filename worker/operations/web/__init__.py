"""What all pages share: sessions, forms, errors, templates."""
