from glowplug.metrics import Acuracy  # expect: attr-defined

print(Acuracy)
