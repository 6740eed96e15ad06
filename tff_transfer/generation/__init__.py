"""What generated examples are worth: distances, classifiers, nearest neighbours."""
