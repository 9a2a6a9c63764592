"""Who tags: generators ``tag(videos, label_set, settings, ...)`` of one VideoResult per video, in any order.

``embed(videos, settings, ...)`` beside it gives what an index keeps of them.

They ask for a video when they can begin with it, so that few of many are in progress, and raise ModelError, LabelError
or UsageError before the first result.
"""
