"""The user study: which of two colorings looks more natural? A page to answer on, and what the answers say."""
