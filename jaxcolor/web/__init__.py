"""A local page on which a photo is colored and its colors are chosen: ``jaxcolor web``.

An app beside the core. ``limits.py`` says how much is taken and kept, ``uploads.py`` keeps photos, ``engine.py`` colors
them and remembers what did not change, ``service.py`` turns requests into answers on one thread, ``app.py`` and
``guard.py`` are the HTTP side, ``serve.py`` runs it; ``page/`` is what the browser gets. All but the last three work
without Starlette.
"""
