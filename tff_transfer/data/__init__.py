"""Where client examples come from, and how they become a round's cohort."""
