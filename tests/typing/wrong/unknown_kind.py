from glowplug.hookspecs import Offer

Offer("Shout", "acme_shout.handler:Shout", kind="tracker")  # expect: arg-type
