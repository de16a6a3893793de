import glowplug as ignite

ignite.metrics.Accuracy(is_multilable=True)  # expect: call-arg
