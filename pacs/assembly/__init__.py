"""Parts of the assembly that are long enough for a module of their own; `pacs.application` puts them together."""
