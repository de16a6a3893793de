from glowplug.handlers import EarlyStopping

EarlyStopping(patience="three", score_function="accuracy")  # expect: arg-type
