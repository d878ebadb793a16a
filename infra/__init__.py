"""What the system runs on: services on this machine (`infra.local`), compose, images."""
