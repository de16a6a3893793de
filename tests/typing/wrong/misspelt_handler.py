from glowplug.handlers import EarlyStoping  # expect: attr-defined

print(EarlyStoping)
