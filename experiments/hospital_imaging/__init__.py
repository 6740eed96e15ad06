"""Three hospitals, one question: is transfer with federation better than each alone?"""
