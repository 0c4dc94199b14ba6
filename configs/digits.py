from jaxce.config import Config

config = Config(data="digits", model="cnn", label_smoothing=0.1, learning_rate=3e-3, epochs=100)
