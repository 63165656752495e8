"""The process of one run. Stands alone: imports nothing of jupyter_jobs outside this folder."""
