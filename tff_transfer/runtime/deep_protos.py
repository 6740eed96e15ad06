"""Lets computations be nested deeper than 100 messages.

A computation is a protocol buffer, and Python's implementation of these refuses to
copy one that is nested deeper: TFF cannot even build federated averaging with
`tff.learning.ddp_secure_aggregator`, whose computations are. This lifts the limit,
for the whole process, when it is imported.
"""

from google.protobuf.internal import api_implementation

if api_implementation.Type() == 'upb':
    from google._upb import _message

    _message.SetAllowOversizeProtos(True)
