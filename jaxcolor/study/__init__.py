"""The user study: which of two colourings looks more natural? A page to answer on, and what the answers say."""
