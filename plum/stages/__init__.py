"""One module or folder per stage of the pipeline; stages exchange nothing but files."""
