from glowplug.handlers import EarlyStopping

EarlyStopping(patiense=3, score_function="accuracy")  # expect: call-arg
