"""Clients' `tf.data.Dataset`s as arrays, without a pipeline for each of them."""
