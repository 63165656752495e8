"""What people look at afterwards: HTML, files, comparisons."""
