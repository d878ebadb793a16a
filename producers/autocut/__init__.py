"""Cut a document into pieces, and turn the pieces into operations. No database is named here."""
