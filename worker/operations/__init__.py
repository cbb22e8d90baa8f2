"""The operations pages: HTML rendered on the server, for operators and the ADMIN of an organization.

`routes` lists the paths. `pages` answer them with the help of `web` (sessions, forms, templates) and `data` (reads and
changes, without HTML). `backend` holds the connections and threads that all pages share.
"""
