"""What a model learns from another's outputs."""

import tensorflow as tf


def divergence(teacher, student, temperature: float = 1.0):
    """Returns how far a model's predictions are from a teacher's.

    That is the Kullback-Leibler divergence of the student's softmax from the teacher's,
    both of logits divided by the temperature (Hinton, Vinyals, Dean 2015, "Distilling
    the knowledge in a neural network", section 2, without its factor).

    Args:
      teacher: Its logits, float32 [batch, classes].
      student: The same of the student.
      temperature: The temperature.

    Returns:
      The mean over the batch, float32 [].
    """
    taught = tf.nn.log_softmax(teacher / temperature)
    apart = taught - tf.nn.log_softmax(student / temperature)
    return tf.reduce_mean(tf.reduce_sum(tf.exp(taught) * apart, axis=-1))
