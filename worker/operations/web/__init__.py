"""The code that all pages share: sessions, forms, errors and templates."""
